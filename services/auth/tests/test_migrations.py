def test_m(database):
    database.assert_migrations_match_models("auth")

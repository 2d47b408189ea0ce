"""Identity by the tokens of Supabase Auth: verified here, with keys that are fetched beside the requests."""

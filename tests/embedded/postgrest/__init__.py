"""The embedded Supabase, asked over real sockets."""

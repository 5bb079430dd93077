//! What the database promises: the conditional write, tokens, outcomes, migrations, settings.

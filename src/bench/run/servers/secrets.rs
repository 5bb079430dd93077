//! Passwords of the run's own servers: other users of the machine reach their ports too.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;

use super::programs::Owner;

/// A password that nobody guesses, of letters and digits.
#[must_use]
pub fn new_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Writes a file that only its owner may read, or whoever runs this.
///
/// # Errors
/// As the system says.
pub fn write_for(owner: Option<Owner>, file: &Path, text: &str) -> io::Result<()> {
    // What an earlier start has left may be open to others.
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    if let Some(Owner { uid, gid }) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_may_read_a_secret_even_where_there_was_an_open_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "what was there before").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let password = new_password();
        write_for(None, &file, &password).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&file).unwrap(), password);
        assert_ne!(password, new_password());
    }
}

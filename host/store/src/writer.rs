//! The writer: the one task that changes the file.
use crate::Error;

/// The task that commits. The caller runs it as long as the hub runs.
#[derive(Debug)]
pub struct Writer {}

impl Writer {
    /// Commits what comes until every [`crate::Store`] is dropped or [`crate::Store::close`] is
    /// called; then finishes the jobs that wait and truncates the log.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file contradicts itself: the process should end, and its next
    /// start salvages what is there. A full or failing disk is no error; it is waited out.
    pub async fn run(self) -> Result<(), Error> {
        todo!()
    }
}

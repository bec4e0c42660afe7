//! One new engine in the place of a lost one: a GPU that failed once must not cost all photos that come after.

use crate::Error;

use super::photos::Photo;
use super::{Failure, message};

/// What works on photos, made again where its engine is lost, once.
pub struct Restartable<S, M> {
    /// Until no engine can be made any more.
    session: Option<S>,
    make: M,
    was_restarted: bool,
    quiet: bool,
}

impl<S, M: FnMut() -> Result<S, Failure>> Restartable<S, M> {
    /// That an engine was lost is said on stderr unless `quiet`.
    pub fn new(mut make: M, quiet: bool) -> Result<Restartable<S, M>, Failure> {
        let session = Some(make()?);
        Ok(Restartable { session, make, was_restarted: false, quiet })
    }

    /// Does `work` on a photo, and again after the first loss of an engine.
    ///
    /// # Errors
    /// That of `work`; [`Error::Lost`] where there is no engine any more.
    pub fn work<R>(
        &mut self,
        photo: &Photo,
        mut work: impl FnMut(&mut S, &Photo) -> crate::Result<R>,
    ) -> crate::Result<R> {
        let Some(session) = &mut self.session else {
            return Err(Error::Lost("there is no engine any more".to_owned()));
        };
        match work(session, photo) {
            Err(Error::Lost(reason)) if !self.was_restarted => {
                let session = self.restart(photo, &reason)?;
                if photo.is_stdin() {
                    return Err(Error::Device(format!("{reason}; standard input cannot be read again")));
                }
                work(session, photo)
            }
            done => done,
        }
    }

    fn restart(&mut self, photo: &Photo, reason: &str) -> crate::Result<&mut S> {
        self.was_restarted = true;
        if !self.quiet {
            message::note(format!("{}: {reason}; going on with a new engine", photo.path.display()));
        }
        // The old one gives its memory back first.
        self.session = None;
        let new = (self.make)().map_err(|failure| Error::Lost(format!("{reason}; and no new engine: {failure}")))?;
        Ok(self.session.insert(new))
    }
}

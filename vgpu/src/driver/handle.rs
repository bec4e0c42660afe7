//! What programs hold: numbers, not pointers, so that a handle of another kind, a stale or an invented one is refused
//! instead of followed. A number is never given out twice.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use super::error::{Code, Failure, Outcome, fail};

/// A handle as C holds it: a pointer's worth of bits. `T` says of what.
#[repr(transparent)]
pub struct Handle<T>(pub usize, PhantomData<fn() -> T>);

impl<T> Handle<T> {
    pub const NULL: Handle<T> = Handle::new(0);

    pub const fn new(bits: usize) -> Handle<T> {
        Handle(bits, PhantomData)
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The living objects of one kind, in order of their making.
pub struct Registry<T> {
    what: &'static str,
    /// The driver's answer to a handle that is none of these.
    unknown: Code,
    next: usize,
    objects: BTreeMap<usize, T>,
}

impl<T> Registry<T> {
    /// `kind` tells this registry's numbers from all others'.
    pub fn new(what: &'static str, kind: usize, unknown: Code) -> Registry<T> {
        Registry { what, unknown, next: (kind << 40) + 0x10, objects: BTreeMap::new() }
    }

    pub fn insert(&mut self, object: T) -> Handle<T> {
        let bits = self.next;
        self.next += 0x10;
        self.objects.insert(bits, object);
        Handle::new(bits)
    }

    pub fn find(&self, handle: Handle<T>) -> Option<&T> {
        self.objects.get(&handle.0)
    }

    pub fn find_mut(&mut self, handle: Handle<T>) -> Option<&mut T> {
        self.objects.get_mut(&handle.0)
    }

    pub fn get(&self, handle: Handle<T>) -> Outcome<&T> {
        self.objects.get(&handle.0).ok_or_else(|| self.refusal(handle))
    }

    pub fn get_mut(&mut self, handle: Handle<T>) -> Outcome<&mut T> {
        if !self.objects.contains_key(&handle.0) {
            return Err(self.refusal(handle));
        }
        self.objects.get_mut(&handle.0).ok_or(Failure::from(self.unknown))
    }

    pub fn remove(&mut self, handle: Handle<T>) -> Outcome<T> {
        match self.objects.remove(&handle.0) {
            Some(object) => Ok(object),
            None => Err(self.refusal(handle)),
        }
    }

    fn refusal(&self, handle: Handle<T>) -> Failure {
        let stale = handle.0 >> 40 == self.next >> 40 && handle.0 < self.next;
        let why = if stale { "was destroyed" } else { "is no such handle" };
        match fail::<()>(self.unknown, format!("{handle:?} {why}: {} expected", self.what)) {
            Err(failure) => failure,
            Ok(()) => self.unknown.into(),
        }
    }

    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.objects.retain(|_, object| keep(object));
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Handle<T>, &T)> {
        self.objects.iter().map(|(&bits, object)| (Handle::new(bits), object))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle<T>, &mut T)> {
        self.objects.iter_mut().map(|(&bits, object)| (Handle::new(bits), object))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.objects.values_mut()
    }
}

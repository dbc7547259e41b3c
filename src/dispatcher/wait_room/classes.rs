//! Requests that are alike to a provider.

use std::collections::HashMap;

use super::size::Size;
use crate::domain::bits::Bits;
use crate::quota::ModelIndex;

/// What the members of a class have in common: the models that they want here, the order of magnitude of their size,
/// and whether they state a cap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    models: Vec<ModelIndex>,
    magnitude: u32,
    is_capped: bool,
}

/// The classes of those who wait for one provider, by position. What is too small for the least member of a class is
/// too small for all of them, so that nobody looks at them one by one.
#[derive(Debug, Default)]
pub(super) struct Classes {
    positions: HashMap<Key, usize>,
    classes: Vec<Class>,
    unused: Vec<usize>,
    /// Those that have members, and of them those that are not known to be without room until the next reopening.
    used: Bits,
    open: Bits,
    /// Counts the reopenings, and everything that shuts something.
    reopened: u64,
    changed: u64,
}

#[derive(Debug)]
struct Class {
    key: Key,
    waiting: usize,
    /// Every member asks for at least as much. A member that has gone may leave its size here, which only says less.
    least: Size,
    /// As of when it was looked at, by the counter of changes.
    looked_in: Option<u64>,
    /// Which of its models may have room, as far as was looked: those before have none until the next reopening.
    open_from: (u64, usize),
    /// A size without room until the next reopening, and with it everything that is as large.
    unfit: Option<(u64, Size)>,
}

impl Classes {
    /// Counts a request in; its class, and whether that is new.
    pub(super) fn join(&mut self, models: impl Iterator<Item = ModelIndex>, size: &Size) -> (usize, bool) {
        let mut models: Vec<ModelIndex> = models.collect();
        models.sort_unstable();
        let key = Key { models, magnitude: size.magnitude(), is_capped: size.output_tokens.is_some() };
        if let Some(&position) = self.positions.get(&key) {
            self.add(position, size);
            return (position, false);
        }
        let class = Class {
            key: key.clone(),
            waiting: 1,
            least: *size,
            looked_in: None,
            open_from: (0, 0),
            unfit: None,
        };
        let position = match self.unused.pop() {
            Some(position) => position,
            None => self.classes.len(),
        };
        match self.classes.get_mut(position) {
            Some(unused) => *unused = class,
            None => self.classes.push(class),
        }
        self.positions.insert(key, position);
        self.used.insert(position);
        self.open.insert(position);
        (position, true)
    }

    fn add(&mut self, position: usize, size: &Size) {
        let Some(class) = self.classes.get_mut(position) else { return };
        class.waiting += 1;
        let least = class.least.least(size);
        if least != class.least {
            class.least = least;
            (class.looked_in, class.open_from) = (None, (0, 0));
            self.open.insert(position);
        }
    }

    /// Whether the class has one member left.
    pub(super) fn is_last(&self, position: usize) -> bool {
        self.classes.get(position).is_some_and(|class| class.waiting == 1)
    }

    /// Counts a request out, and its class with the last one.
    pub(super) fn leave(&mut self, position: usize) {
        let Some(class) = self.classes.get_mut(position) else { return };
        class.waiting = class.waiting.saturating_sub(1);
        if class.waiting > 0 {
            return;
        }
        self.used.remove(position);
        self.open.remove(position);
        self.positions.remove(&class.key);
        self.unused.push(position);
    }

    /// The models that its members want.
    pub(super) fn models(&self, position: usize) -> &[ModelIndex] {
        self.classes.get(position).map_or(&[], |class| &class.key.models)
    }

    /// All of them may have room again.
    pub(super) fn reopen(&mut self) {
        self.reopened += 1;
        self.open.clone_from(&self.used);
        self.change();
    }

    /// Some of them may have no room any more.
    pub(super) fn change(&mut self) {
        self.changed += 1;
    }

    /// Whether a member may have room, where `is_open` tells it of a model and a size. Asked once for each change.
    pub(super) fn may_fit(&mut self, position: usize, is_open: impl Fn(ModelIndex, &Size) -> bool) -> bool {
        let Some(class) = self.classes.get_mut(position) else { return false };
        if !self.open.contains(position) {
            return false;
        }
        if class.looked_in == Some(self.changed) {
            return true;
        }
        class.looked_in = Some(self.changed);
        let open = class.first_open(self.reopened, &class.least, &is_open);
        class.open_from = (self.reopened, open.unwrap_or_default());
        if open.is_none() {
            self.open.remove(position);
        }
        open.is_some()
    }

    /// Whether a member of that size may have room.
    pub(super) fn fits(
        &mut self,
        position: usize,
        size: &Size,
        is_open: impl Fn(ModelIndex, &Size) -> bool,
    ) -> bool {
        let Some(class) = self.classes.get_mut(position) else { return false };
        if class.unfit.is_some_and(|(reopened, unfit)| reopened == self.reopened && size.covers(&unfit)) {
            return false;
        }
        let fits = class.first_open(self.reopened, size, &is_open).is_some();
        if !fits {
            class.unfit = Some((self.reopened, *size));
        }
        fits
    }

    /// Whether it is known that none of its members has room.
    pub(super) fn is_shut(&self, position: usize) -> bool {
        !self.open.contains(position)
    }

    /// The first class from there on that is not known to be without room, of those.
    pub(super) fn next_open(&self, of: &Bits, from: usize) -> Option<usize> {
        self.open.next_common(of, from)
    }

    /// Whether it is known that nobody has room.
    pub(super) fn are_shut(&self) -> bool {
        self.open.is_empty()
    }
}

impl Class {
    /// The first of its models that may have room for that size, by position.
    fn first_open(
        &self,
        reopened: u64,
        size: &Size,
        is_open: &impl Fn(ModelIndex, &Size) -> bool,
    ) -> Option<usize> {
        let from = if self.open_from.0 == reopened { self.open_from.1 } else { 0 };
        let rest = self.key.models.get(from..).unwrap_or_default();
        rest.iter().position(|model| is_open(*model, size)).map(|position| from + position)
    }
}

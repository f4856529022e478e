//! A slab whose keys are never mistaken for later ones: what was removed stays removed.

/// Names an entry: its place, and which of the place's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    place: u32,
    tenant: u32,
}

impl Key {
    /// The key as one number, below 2^63.
    pub fn to_u64(self) -> u64 {
        u64::from(self.place) << 32 | u64::from(self.tenant)
    }

    /// The inverse of [`Key::to_u64`]; any other number is a key of nothing.
    pub fn from_u64(number: u64) -> Key {
        Key { place: (number >> 32) as u32, tenant: number as u32 }
    }
}

/// Entries by key; places are used again, keys are not (until a place has had 2^32 tenants).
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds an entry.
    pub fn insert(&mut self, entry: T) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            let place = i32::try_from(self.places.len() - 1).expect("fewer than 2^31 entries");
            place as u32
        });
        let (tenant, slot) = &mut self.places[place as usize];
        *slot = Some(entry);
        Key { place, tenant: *tenant }
    }

    /// The entry, if it is still there.
    pub fn entry(&mut self, key: Key) -> Option<&mut T> {
        let (tenant, slot) = self.places.get_mut(key.place as usize)?;
        if *tenant == key.tenant { slot.as_mut() } else { None }
    }

    /// Removes the entry, if it is still there.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (tenant, slot) = self.places.get_mut(key.place as usize)?;
        if *tenant != key.tenant {
            return None;
        }
        let entry = slot.take()?;
        *tenant = tenant.wrapping_add(1);
        self.free.push(key.place);
        Some(entry)
    }

    /// Takes an entry out to work on it, while its key stays good for [`Slab::restore`].
    pub fn remove_for(&mut self, key: Key) -> Option<T> {
        let (tenant, slot) = self.places.get_mut(key.place as usize)?;
        if *tenant == key.tenant { slot.take() } else { None }
    }

    /// Puts an entry back that [`Slab::remove_for`] took out.
    pub fn restore(&mut self, key: Key, entry: T) {
        let (tenant, slot) = &mut self.places[key.place as usize];
        assert!(*tenant == key.tenant && slot.is_none(), "{key:?} was not taken out");
        *slot = Some(entry);
    }

    /// Keys of all entries.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let taken = self.places.iter().zip(0..).filter(|((_, slot), _)| slot.is_some());
        taken.map(|((tenant, _), place)| Key { place, tenant: *tenant })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_never_finds_the_next_tenant() {
        let mut slab = Slab::default();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_eq!(slab.entry(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.entry(b), Some(&mut "b"));
        assert_eq!(Key::from_u64(b.to_u64()), b);
        assert_eq!(slab.keys().collect::<Vec<_>>(), [b]);
        assert_eq!((slab.len(), slab.is_empty()), (1, false));
    }
}

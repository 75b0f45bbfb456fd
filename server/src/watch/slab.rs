//! Numbered places for things, in chunks, so that growing moves nothing.

use std::ops::{Index, IndexMut};

/// Places of one chunk.
const CHUNK: usize = 512;

/// Things by number. Numbers of things that were taken out are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    vacant: Vec<u32>,
    places: u32,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), vacant: Vec::new(), places: 0 }
    }

    /// Puts a thing in and says where.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.vacant.pop() {
            self.chunks[number as usize / CHUNK][number as usize % CHUNK] = Some(thing);
            return number;
        }
        let number = self.places;
        self.places = number.checked_add(1).expect("four thousand million watches do not fit into memory");
        if (number as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[number as usize / CHUNK].push(Some(thing));
        number
    }

    /// Takes a thing out.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.chunks[number as usize / CHUNK][number as usize % CHUNK].take();
        self.vacant.extend(thing.is_some().then_some(number));
        thing
    }

    /// The things in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let places = self.chunks.iter().flatten().zip(0..);
        places.filter_map(|(thing, number)| Some((number, thing.as_ref()?)))
    }

    /// Things.
    pub(super) fn len(&self) -> usize {
        self.places as usize - self.vacant.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        let thing = &self.chunks[number as usize / CHUNK][number as usize % CHUNK];
        thing.as_ref().expect("numbers are forgotten before their things are taken out")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let thing = &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK];
        thing.as_mut().expect("numbers are forgotten before their things are taken out")
    }
}

//! Rows with generations: a row is used again, an id never.

use super::ConnId;
use crate::op::{Tag, UserData};

#[derive(Debug)]
struct Row<T> {
    generation: u32,
    value: Option<T>,
}

/// A table that grows to its limit as it is needed and hands out freed rows last in, first out.
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: Vec<Row<T>>,
    free: Vec<u32>,
    limit: u32,
    first_generation: u32,
}

impl<T> Table<T> {
    /// Tables whose numbers differ begin their generations far apart, so that an id of one finds
    /// nobody in another.
    pub(crate) fn new(limit: u32, number: u32) -> Self {
        // The golden ratio spreads any count of tables over the whole range.
        let first_generation = number.wrapping_mul(0x9e37_79b9);
        Self { rows: Vec::new(), free: Vec::new(), limit, first_generation }
    }

    /// Gives the value back if the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        let row = match self.free.pop() {
            Some(row) => row,
            None if self.rows.len() < self.limit as usize => {
                self.rows.push(Row { generation: self.first_generation, value: None });
                (self.rows.len() - 1) as u32
            }
            None => return Err(value),
        };
        let slot = &mut self.rows[row as usize];
        slot.value = Some(value);
        Ok(ConnId { row, generation: slot.generation })
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.rows.get_mut(id.row as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.row);
        Some(value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let slot = self.rows.get_mut(id.row as usize)?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&T> {
        let slot = self.rows.get(id.row as usize)?;
        if slot.generation == id.generation { slot.value.as_ref() } else { None }
    }

    /// The row that a completion is for, unless the completion is for somebody who is gone.
    #[inline]
    pub(crate) fn find_mut(&mut self, tag: Tag) -> Option<(ConnId, &mut T)> {
        let slot = self.rows.get_mut(tag.row as usize)?;
        if slot.generation & UserData::GENERATION_MASK != tag.generation {
            return None;
        }
        let id = ConnId { row: tag.row, generation: slot.generation };
        slot.value.as_mut().map(|value| (id, value))
    }

    /// Whoever occupies a row now.
    pub(crate) fn at(&self, row: u32) -> Option<ConnId> {
        let slot = self.rows.get(row as usize)?;
        slot.value.as_ref().map(|_| ConnId { row, generation: slot.generation })
    }

    /// Whether there is no row for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.live() >= self.limit as usize
    }

    /// How many rows there may be.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    pub(crate) fn live(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// How many rows there have ever been at once.
    pub(crate) fn height(&self) -> u32 {
        self.rows.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Kind;

    #[test]
    fn a_freed_row_gets_a_new_generation() {
        let mut table = Table::new(1, 0);
        let first = table.insert('a').unwrap();
        assert_eq!(table.insert('b'), Err('b'));
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        let second = table.insert('c').unwrap();
        assert_eq!(second.row, first.row);
        assert_ne!(second, first);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get(second), Some(&'c'));
        assert_eq!(table.live(), 1);
    }

    #[test]
    fn a_stale_completion_finds_nobody() {
        let mut table = Table::new(4, 0);
        let first = table.insert(()).unwrap();
        let tag = |id: ConnId| UserData::new(Kind::Recv, id.generation, id.row).decode().unwrap();
        assert_eq!(table.find_mut(tag(first)).map(|(id, ())| id), Some(first));
        table.remove(first);
        assert_eq!(table.find_mut(tag(first)), None);
        let second = table.insert(()).unwrap();
        assert_eq!(table.find_mut(tag(first)), None);
        assert_eq!(table.find_mut(tag(second)).map(|(id, ())| id), Some(second));
    }

    #[test]
    fn an_id_finds_nobody_in_the_table_of_another_worker() {
        let mut ids = Vec::new();
        for number in 0..64 {
            ids.push(Table::new(1, number).insert(()).unwrap());
        }
        for (number, id) in ids.iter().enumerate() {
            for other in (0..64).filter(|other| *other != number) {
                let mut table = Table::new(1, other as u32);
                let _ = table.insert(()).unwrap();
                assert_eq!(table.get(*id), None, "an id of worker {number} on worker {other}");
            }
        }
    }
}

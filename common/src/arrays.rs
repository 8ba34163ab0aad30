//! Buffers of observations and actions whose element type is known only at run time: bytes stay bytes until they are
//! on the learner's device.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The type of one element of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ElementType {
    /// A 32-bit float.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// A byte, as pixels are.
    #[serde(rename = "uint8")]
    U8,
}

impl ElementType {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::U8 => size_of::<u8>(),
        }
    }

    /// The name that numpy gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::U8 => "uint8",
        }
    }
}

/// An owned buffer of observation elements of one type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Elements {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Bytes.
    U8(Vec<u8>),
}

impl Default for Elements {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

impl Elements {
    /// An empty buffer with room for `capacity` elements.
    #[must_use]
    pub fn with_capacity(element: ElementType, capacity: usize) -> Self {
        match element {
            ElementType::F32 => Self::F32(Vec::with_capacity(capacity)),
            ElementType::U8 => Self::U8(Vec::with_capacity(capacity)),
        }
    }

    /// A buffer of `len` zeros.
    #[must_use]
    pub fn zeros(element: ElementType, len: usize) -> Self {
        match element {
            ElementType::F32 => Self::F32(vec![0.0; len]),
            ElementType::U8 => Self::U8(vec![0; len]),
        }
    }

    /// The type of its elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::U8(_) => ElementType::U8,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements, to read.
    #[must_use]
    pub fn as_ref(&self) -> ElementsRef<'_> {
        match self {
            Self::F32(values) => ElementsRef::F32(values),
            Self::U8(values) => ElementsRef::U8(values),
        }
    }

    /// All elements, to write.
    #[must_use]
    pub fn as_mut(&mut self) -> ElementsMut<'_> {
        match self {
            Self::F32(values) => ElementsMut::F32(values),
            Self::U8(values) => ElementsMut::U8(values),
        }
    }

    /// The elements in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> ElementsRef<'_> {
        self.as_ref().slice(range)
    }

    /// Removes all elements and keeps the memory; changes the type if it is another one.
    pub fn clear_as(&mut self, element: ElementType) {
        match (self, element) {
            (Self::F32(values), ElementType::F32) => values.clear(),
            (Self::U8(values), ElementType::U8) => values.clear(),
            (other, element) => *other = Self::with_capacity(element, 0),
        }
    }

    /// Appends `more`, which must be of the same type.
    ///
    /// # Panics
    /// When it is not: a mistake in the calling code.
    pub fn extend(&mut self, more: ElementsRef<'_>) {
        match (self, more) {
            (Self::F32(values), ElementsRef::F32(more)) => values.extend_from_slice(more),
            (Self::U8(values), ElementsRef::U8(more)) => values.extend_from_slice(more),
            _ => panic!("elements of two types in one buffer"),
        }
    }
}

/// Observation elements to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ElementsRef<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
}

impl<'a> ElementsRef<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The elements in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::U8(values) => Self::U8(&values[range]),
        }
    }

    /// All elements as floats; bytes keep their value (255 becomes 255.0).
    #[must_use]
    pub fn to_f32(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.to_vec(),
            Self::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        }
    }

    /// The floats; none if these are bytes.
    #[must_use]
    pub fn as_f32(self) -> Option<&'a [f32]> {
        match self {
            Self::F32(values) => Some(values),
            Self::U8(_) => None,
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> Elements {
        match self {
            Self::F32(values) => Elements::F32(values.to_vec()),
            Self::U8(values) => Elements::U8(values.to_vec()),
        }
    }
}

/// Observation elements to write: the row that an environment is lent.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// Bytes.
    U8(&'a mut [u8]),
}

impl<'a> ElementsMut<'a> {
    /// The floats. An environment that declared bytes and asks for floats gets an empty row.
    pub fn f32(&mut self) -> &mut [f32] {
        match self {
            Self::F32(values) => values,
            Self::U8(_) => &mut [],
        }
    }

    /// The bytes. An environment that declared floats and asks for bytes gets an empty row.
    pub fn u8(&mut self) -> &mut [u8] {
        match self {
            Self::U8(values) => values,
            Self::F32(_) => &mut [],
        }
    }

    /// The same row for a shorter time, to hand on.
    pub fn reborrow(&mut self) -> ElementsMut<'_> {
        match self {
            Self::F32(values) => ElementsMut::F32(values),
            Self::U8(values) => ElementsMut::U8(values),
        }
    }

    /// The row, to read.
    #[must_use]
    pub fn as_ref(&self) -> ElementsRef<'_> {
        match self {
            Self::F32(values) => ElementsRef::F32(values),
            Self::U8(values) => ElementsRef::U8(values),
        }
    }

    /// The elements in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => ElementsMut::F32(&mut values[range]),
            Self::U8(values) => ElementsMut::U8(&mut values[range]),
        }
    }
}

/// An owned buffer of actions: `[rows, A]` with A = [`crate::spec::ActionSpec::len`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Actions {
    /// Numbers of discrete actions, one for each head.
    Indices(Vec<u32>),
    /// Values of a continuous action, as the policy drew them: before squashing or clipping to the bounds.
    Values(Vec<f32>),
}

impl Default for Actions {
    fn default() -> Self {
        Self::Indices(Vec::new())
    }
}

impl Actions {
    /// Numbers in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, to read.
    #[must_use]
    pub fn as_ref(&self) -> ActionsRef<'_> {
        match self {
            Self::Indices(indices) => ActionsRef::Indices(indices),
            Self::Values(values) => ActionsRef::Values(values),
        }
    }

    /// All, to write.
    #[must_use]
    pub fn as_mut(&mut self) -> ActionsMut<'_> {
        match self {
            Self::Indices(indices) => ActionsMut::Indices(indices),
            Self::Values(values) => ActionsMut::Values(values),
        }
    }

    /// Those in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> ActionsRef<'_> {
        self.as_ref().slice(range)
    }

    /// Appends `more`, which must be of the same kind; an empty buffer takes any kind.
    ///
    /// # Panics
    /// When it is not: a mistake in the calling code.
    pub fn extend(&mut self, more: ActionsRef<'_>) {
        match (&mut *self, more) {
            (Self::Indices(indices), ActionsRef::Indices(more)) => indices.extend_from_slice(more),
            (Self::Values(values), ActionsRef::Values(more)) => values.extend_from_slice(more),
            (empty, more) if empty.is_empty() => *empty = more.to_owned(),
            _ => panic!("actions of two kinds in one buffer"),
        }
    }

    /// Removes all and keeps the memory.
    pub fn clear(&mut self) {
        match self {
            Self::Indices(indices) => indices.clear(),
            Self::Values(values) => values.clear(),
        }
    }
}

/// Actions to read: those of one environment, or of many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActionsRef<'a> {
    /// Numbers of discrete actions, one for each head.
    Indices(&'a [u32]),
    /// Values of a continuous action.
    Values(&'a [f32]),
}

impl<'a> ActionsRef<'a> {
    /// Numbers in it.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Indices(indices) => indices.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of a single discrete action; 0 if there is none.
    #[must_use]
    pub fn index(self) -> u32 {
        self.indices().first().copied().unwrap_or(0)
    }

    /// The numbers of discrete actions; empty if the action is continuous.
    #[must_use]
    pub fn indices(self) -> &'a [u32] {
        match self {
            Self::Indices(indices) => indices,
            Self::Values(_) => &[],
        }
    }

    /// The values of a continuous action; empty if it is discrete.
    #[must_use]
    pub fn values(self) -> &'a [f32] {
        match self {
            Self::Values(values) => values,
            Self::Indices(_) => &[],
        }
    }

    /// Those in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::Indices(indices) => Self::Indices(&indices[range]),
            Self::Values(values) => Self::Values(&values[range]),
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> Actions {
        match self {
            Self::Indices(indices) => Actions::Indices(indices.to_vec()),
            Self::Values(values) => Actions::Values(values.to_vec()),
        }
    }
}

/// Actions to write.
#[derive(Debug)]
pub enum ActionsMut<'a> {
    /// Numbers of discrete actions, one for each head.
    Indices(&'a mut [u32]),
    /// Values of a continuous action.
    Values(&'a mut [f32]),
}

impl ActionsMut<'_> {
    /// Those in `range`.
    ///
    /// # Panics
    /// When the range reaches beyond the end, as with a slice.
    #[must_use]
    pub fn slice(&mut self, range: Range<usize>) -> ActionsMut<'_> {
        match self {
            Self::Indices(indices) => ActionsMut::Indices(&mut indices[range]),
            Self::Values(values) => ActionsMut::Values(&mut values[range]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_wrong_type_is_empty() {
        let mut floats = Elements::zeros(ElementType::F32, 3);
        assert_eq!(floats.as_mut().u8().len(), 0);
        floats.as_mut().f32()[1] = 2.0;
        assert_eq!(floats.slice(1..3), ElementsRef::F32(&[2.0, 0.0]));
    }

    #[test]
    fn bytes_become_floats_of_the_same_value() {
        let mut bytes = Elements::with_capacity(ElementType::U8, 2);
        bytes.extend(ElementsRef::U8(&[0, 255]));
        assert_eq!(bytes.as_ref().to_f32(), [0.0, 255.0]);
        bytes.clear_as(ElementType::F32);
        bytes.extend(ElementsRef::F32(&[0.5]));
        assert_eq!(bytes, Elements::F32(vec![0.5]));
    }

    #[test]
    fn an_empty_buffer_takes_either_kind_of_action() {
        let mut actions = Actions::default();
        actions.extend(ActionsRef::Values(&[0.5]));
        actions.extend(ActionsRef::Values(&[1.5]));
        assert_eq!(actions, Actions::Values(vec![0.5, 1.5]));
        assert_eq!(actions.as_ref().index(), 0);
        assert!(actions.as_ref().indices().is_empty());
    }
}

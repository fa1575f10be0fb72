//! What is made of the fuzzer's bytes. Few bytes a step, so that changing one changes one thing; what there are no bytes for
//! is 0.

use fibra_allocators::{Layout, MemReq, Table, fixup};
use libfuzzer_sys::arbitrary::Unstructured;

use crate::model::{Pick, Step, layout};

pub struct Input<'b>(Unstructured<'b>);

impl<'b> Input<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Input(Unstructured::new(bytes))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn word(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub fn pick(&mut self) -> Pick {
        Pick(u32::from(self.word()) << 16 | u32::from(u16::MAX))
    }

    /// Small ones more often, and those about a size that matters.
    pub fn size(&mut self, matters: &[usize]) -> usize {
        match self.byte() {
            byte @ 0..128 => byte.into(),
            byte @ 128..224 if !matters.is_empty() => {
                let at = usize::from(byte - 128);
                (matters[at / 3 % matters.len()] + at % 3).saturating_sub(1)
            }
            _ => usize::from(self.word()) % 10_000,
        }
    }

    pub fn align(&mut self) -> usize {
        match self.byte() {
            byte @ 0..192 => 1 << (byte % 5),
            byte => 1 << (byte % 14),
        }
    }

    pub fn layout(&mut self, matters: &[usize]) -> Layout {
        layout(self.size(matters), self.align())
    }

    pub fn step(&mut self, code: u8, matters: &[usize]) -> Step {
        let zeroed = code & 8 != 0;
        match code & 7 {
            0..3 => Step::Allocate { layout: self.layout(matters), zeroed },
            3..5 => Step::Release { which: self.pick(), size: self.pick() },
            _ => Step::Resize { which: self.pick(), layout: self.layout(matters), zeroed },
        }
    }

    /// Rows of a few blocks each, now and then of enough for a second word of bits.
    pub fn table(&mut self) -> Table<6> {
        let rows = [(); 6].map(|()| {
            let block_size = match self.byte() {
                byte @ 1..192 => byte.into(),
                byte @ 192.. => 1 << (4 + byte % 10),
                0 => 1 + usize::from(self.word()) % 10_000,
            };
            let n_blocks = match self.byte() {
                byte @ 240.. if block_size <= 256 => 50 + usize::from(byte),
                byte => 1 + usize::from(byte) % 6,
            };
            MemReq::new(block_size, n_blocks)
        });
        fixup(rows).expect("rows of at least 1 block of 1 byte")
    }
}

/// The sizes at which a table's answers change.
pub fn sizes(rows: &[MemReq]) -> Vec<usize> {
    rows.iter().map(|row| row.block_size).collect()
}

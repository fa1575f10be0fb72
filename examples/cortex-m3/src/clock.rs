//! Instructions, counted by an emulator whose timer does that (`-icount shift=0`).

use cortex_m::peripheral::{SYST, syst::SystClkSource};

/// Ticks of the timer, and how many instructions so many of them are.
pub struct Clock {
    instructions: u64,
    ticks: u64,
}

impl Clock {
    /// Sets the timer going, and finds out how fast it is.
    pub fn new(timer: &mut SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(0x00ff_ffff);
        timer.clear_current();
        timer.enable_counter();
        // A loop of two instructions, once for each cycle, and some more, which the difference is without.
        let short = Self::ticks(|| cortex_m::asm::delay(1_000_000));
        let long = Self::ticks(|| cortex_m::asm::delay(3_000_000));
        Clock { instructions: 4_000_000, ticks: long - short }
    }

    /// The ticks that something takes, if they are no more than the timer can count: 2 to the power of 24.
    #[inline(never)]
    pub fn ticks(what: impl FnOnce()) -> u64 {
        let before = SYST::get_current();
        what();
        u64::from(before.wrapping_sub(SYST::get_current()) & 0x00ff_ffff)
    }

    /// How many instructions so many ticks are, of each of so many times.
    #[must_use]
    pub fn instructions(&self, ticks: u64, times: usize) -> u64 {
        let times = self.ticks * times as u64;
        (ticks * self.instructions + times / 2) / times
    }
}

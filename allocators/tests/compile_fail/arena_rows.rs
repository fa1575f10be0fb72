fibra_allocators::arena! {
    static NO_BLOCKS: [32 => 100, 64 => 0];
    static NO_BYTES: [32 - 32 => 100];
    static TOO_MUCH: [usize::MAX => 1, 16 => 1];
}

fn main() {}

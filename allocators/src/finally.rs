/// Does something at the end, also when that comes by a panic; unless it is forgotten before.
pub(crate) struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Finally<F> {
    pub(crate) fn new(end: F) -> Self {
        Finally(end)
    }
}

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

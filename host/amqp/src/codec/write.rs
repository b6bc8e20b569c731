//! Writing sections of messages: what the hub sends is small and known.

use bytes::{BufMut, Bytes, BytesMut};

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(BytesMut);

/// A list or map that is being written.
#[derive(Debug)]
pub(crate) struct Open {
    at: usize,
    count: u32,
}

impl Open {
    /// One more item, or key, or value.
    pub(crate) fn add(&mut self, items: u32) {
        self.count += items;
    }
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }

    /// The descriptor of what follows.
    pub(crate) fn descriptor(&mut self, code: u8) {
        self.0.put_slice(&[0x00, 0x53, code]);
    }

    pub(crate) fn list(&mut self) -> Open {
        self.open(0xd0)
    }

    pub(crate) fn map(&mut self) -> Open {
        self.open(0xd1)
    }

    fn open(&mut self, constructor: u8) -> Open {
        self.0.put_u8(constructor);
        let at = self.0.len();
        self.0.put_u64(0);
        Open { at, count: 0 }
    }

    pub(crate) fn close(&mut self, open: &Open) {
        let size = length(self.0.len() - open.at - 4);
        self.0[open.at..open.at + 4].copy_from_slice(&size.to_be_bytes());
        self.0[open.at + 4..open.at + 8].copy_from_slice(&open.count.to_be_bytes());
    }

    pub(crate) fn null(&mut self) {
        self.0.put_u8(0x40);
    }

    pub(crate) fn int(&mut self, value: i32) {
        self.0.put_u8(0x71);
        self.0.put_i32(value);
    }

    pub(crate) fn ulong(&mut self, value: u64) {
        self.0.put_u8(0x80);
        self.0.put_u64(value);
    }

    pub(crate) fn long(&mut self, value: i64) {
        self.0.put_u8(0x81);
        self.0.put_i64(value);
    }

    /// Milliseconds since 1970.
    pub(crate) fn timestamp(&mut self, value: i64) {
        self.0.put_u8(0x83);
        self.0.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: [u8; 16]) {
        self.0.put_u8(0x98);
        self.0.put_slice(&value);
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.variable(0xa1, value.as_bytes());
    }

    pub(crate) fn symbol(&mut self, value: &str) {
        self.variable(0xa3, value.as_bytes());
    }

    pub(crate) fn binary(&mut self, value: &[u8]) {
        self.variable(0xa0, value);
    }

    fn variable(&mut self, narrow: u8, value: &[u8]) {
        match u8::try_from(value.len()) {
            Ok(size) => self.0.put_slice(&[narrow, size]),
            Err(_) => {
                self.0.put_u8(narrow | 0x10);
                self.0.put_u32(length(value.len()));
            }
        }
        self.0.put_slice(value);
    }

    /// Bytes that were encoded elsewhere.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a message has at most 256 KiB")
}

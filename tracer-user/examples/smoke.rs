#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, missing_docs)]
use std::sync::{Arc, Mutex};
use tracer_user::{access::*, backend::Backend, session::*, shadow::Shadow, views::Views};
struct Count(u64, u64);
impl EventSink for Count {
    fn event(&mut self, e: &AccessEvent) {
        self.0 += 1;
        self.1 = e.access.addr;
    }
    fn refused(&mut self, r: &Refused) {
        println!("refused {r:?}");
    }
}
#[repr(C)]
struct D {
    p: *const u32,
    n: u64,
}
unsafe extern "C" fn work(d: *mut libc::c_void) {
    unsafe {
        let d = &*d.cast::<D>();
        for i in 0..d.n {
            d.p.add(i as usize % 1000).read_volatile();
        }
    }
}
fn main() {
    let n: u64 = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(10000);
    let mut views = Views::new().unwrap();
    let base = views.add_segment().unwrap() + (2 << 20);
    let shadow = Shadow::new(views.session()).unwrap();
    for b in [Backend::Inproc, Backend::Ebpf, Backend::Ptrace] {
        let sink = Arc::new(Mutex::new(Count(0, 0)));
        let place = Place {
            session: views.session(),
            segments: 1,
            shadow: unsafe { shadow.view() },
        };
        let mut s = match TraceSession::start(b, place, sink.clone()) {
            Ok(s) => s,
            Err(e) => {
                println!("{b}: {e}");
                continue;
            }
        };
        let n = if b == Backend::Ptrace { n / 10 } else { n };
        let mut d = D {
            p: base as *const u32,
            n,
        };
        let end = unsafe { s.call(work, (&raw mut d).cast(), 1, None) }.unwrap();
        println!(
            "{b}: {:?} {:?} {} ns/access; events {}",
            end.crash.map(|c| (c.signal, c.addr)),
            end.stats,
            end.elapsed.as_nanos() as u64 / n,
            sink.lock().unwrap().0
        );
        let mut d = D {
            p: 8 as *const u32,
            n,
        };
        let end = unsafe { s.call(work, (&raw mut d).cast(), 1, None) }.unwrap();
        println!(
            "  wild: {:?}",
            end.crash
                .map(|c| (c.reason, c.signal, c.addr, c.code, c.error))
        );
    }
}

//! Generated host side of `wit/` and of the WASI interfaces in `wasi/`; the only `bindgen!`s.
//!
//! What goes into a guest is borrowed, so that lowering a batch copies each byte once; what comes
//! out of a guest is owned and untrusted until `lift` has checked it.

wasmtime::component::bindgen!({
    path: ["../../wit", "wasi"],
    inline: r"
        package weir:host@0.1.0;
        world guest {
            include weir:module/imports@0.1.0;
            import weir:module/calls@0.1.0;
            import wasi:io/error@0.2.12;
            import wasi:io/poll@0.2.12;
            import wasi:io/streams@0.2.12;
            import wasi:clocks/monotonic-clock@0.2.12;
            import wasi:clocks/wall-clock@0.2.12;
            import wasi:random/random@0.2.12;
            import wasi:random/insecure@0.2.12;
            import wasi:random/insecure-seed@0.2.12;
            import wasi:cli/environment@0.2.12;
            import wasi:cli/exit@0.2.12;
            import wasi:cli/stdin@0.2.12;
            import wasi:cli/stdout@0.2.12;
            import wasi:cli/stderr@0.2.12;
            import wasi:cli/terminal-input@0.2.12;
            import wasi:cli/terminal-output@0.2.12;
            import wasi:cli/terminal-stdin@0.2.12;
            import wasi:cli/terminal-stdout@0.2.12;
            import wasi:cli/terminal-stderr@0.2.12;
            export weir:module/lifecycle@0.1.0;
            export weir:module/processor@0.1.0;
        }
    ",
    world: "weir:host/guest",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    with: {
        "weir:module/types.payload": crate::capability::payload::Payload,
        "wasi:io/error.error": crate::capability::wasi_io::IoError,
        "wasi:io/poll.pollable": crate::capability::wasi_io::Pollable,
        "wasi:io/streams.input-stream": crate::capability::wasi_io::Input,
        "wasi:io/streams.output-stream": crate::capability::wasi_io::Output,
        "wasi:cli/terminal-input.terminal-input": crate::capability::wasi_cli::Terminal,
        "wasi:cli/terminal-output.terminal-output": crate::capability::wasi_cli::Terminal,
    },
});

/// What a component may export besides: one world for each interface, because all exports of a world
/// must be there.
pub(crate) mod methods {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: r"
            package weir:host@0.1.0;
            world callee { export weir:module/methods@0.1.0; }
        ",
        world: "weir:host/callee",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) mod twin_handler {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: r"
            package weir:host@0.1.0;
            world configured { export weir:module/twin-handler@0.1.0; }
        ",
        world: "weir:host/configured",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

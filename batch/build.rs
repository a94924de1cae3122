//! Compiles PD's protocol into Rust, for the feature `pd-grpc` alone, and without `protoc`.

#[cfg(feature = "pd-grpc")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["pdpb.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

#[cfg(not(feature = "pd-grpc"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

//! Compiles the .proto files without an installed protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=springbok");
    let descriptors = protox::compile(["springbok/v1/training.proto"], ["."])?;
    tonic_prost_build::configure()
        // Tensors arrive as slices of the received buffer instead of copies.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

//! Device, byte ledger, arena and kernel launches on wgpu

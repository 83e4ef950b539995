// Flat workgroup index of a grid that is folded over two dimensions, because one dimension holds at most 65535 groups.

fn flat_workgroup(workgroup: vec3<u32>, count: vec3<u32>) -> u32 {
    return workgroup.x + workgroup.y * count.x;
}

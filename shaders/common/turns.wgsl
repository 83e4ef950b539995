// Loops that stand for text. A software device compiles every access to memory for every lane, so that a kernel whose accesses stand in
// loops compiles several times as fast there. What such a loop keeps in registers moves on by one turn at its end, so that no index is unknown.
//
// SOFTWARE: `count` is told no compiler, lest it unrolls the loop; elsewhere unrolling is welcome. `positive` is any parameter above zero.

fn turns(count: u32, positive: u32) -> u32 {
#ifdef SOFTWARE
    return select(count, 0u, positive == 0u);
#else
    return count;
#endif
}

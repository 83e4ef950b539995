// Four random words from a counter of four words, without state: each word is stepped by a linear congruence, then the words are
// mixed by two rounds of multiply-adds with a shift-and-xor between (the generator "pcg4d" of Jarzynski and Olano, 2020).

fn mix_words(words: vec4<u32>) -> vec4<u32> {
    var mixed = words;
    mixed.x += mixed.y * mixed.w;
    mixed.y += mixed.z * mixed.x;
    mixed.z += mixed.x * mixed.y;
    mixed.w += mixed.y * mixed.z;
    return mixed;
}

fn random_words(counter: vec4<u32>) -> vec4<u32> {
    let words = mix_words(counter * 1664525u + 1013904223u);
    return mix_words(words ^ (words >> vec4<u32>(16u)));
}

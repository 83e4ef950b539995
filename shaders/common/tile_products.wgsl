// A part of conv/tiles.wgsl: the products of step `step_used`, whose patch and weights are held.
        let step_at = (step_used % row_steps) * TAP_ROWS;
        let rows = min(TAP_ROWS, params.taps_y - step_at);
        let depths = turns(DEPTH_OF_LANE, params.groups);
        for (var row = 0u; row < rows; row++) {
            for (var depth_at = 0u; depth_at < depths; depth_at++) {
                let depth = depth_at + depth_lane * DEPTH_OF_LANE;
                let row_at = (step_at + row) * params.dilation_y * COLUMNS + depth * PATCH;
                let weights_at = WEIGHTS_AT + (row * TAPS_X * DEPTH + depth) * 4u * WEIGHT_STRIDE + quad_lane;
#for tap in 0..TAPS_X
                {
#for pixel in 0..TILE
                    let value_{pixel} = held[row_at + at_{pixel} + {tap}u * DILATION_X];
#endfor
#for quad in 0..QUADS
#for row in 0..4
                    let weight_{quad}_{row} = held[weights_at + ({tap}u * DEPTH * 4u + {row}u) * WEIGHT_STRIDE + {quad}u * QUAD_LANES];
#endfor
#for pixel in 0..TILE
#ifdef TRANSPOSED
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#else
#for row in 0..4
                    sum_{pixel}_{quad} = fma(weight_{quad}_{row}, vec4<f32>(value_{pixel}[{row}]), sum_{pixel}_{quad});
#endfor
#endif
#endfor
#endfor
                }
#endfor
            }
        }

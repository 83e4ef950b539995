//! Well-known networks, under the names that PyTorch gives their parameters.
//!
//! | names | parameters as in |
//! |---|---|
//! | `resnet8` `resnet20` `resnet32` `resnet44` `resnet56` `resnet110` | He's CIFAR networks, shortcuts without parameters (option A) |
//! | `resnet32x2` | the same, two times as wide |
//! | `resnet18` `resnet34` `resnet50` | torchvision |
//! | `vgg11_bn` `vgg16_bn` | torchvision |
//! | `mobilenet_v2` | torchvision |

mod mobilenet;
mod resnet;
mod resnet_cifar;
mod vgg;

use crate::error::GraphError;
use crate::graph::Graph;

/// The networks of the zoo.
pub const NAMES: &[&str] = &[
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet32x2",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg11_bn",
    "vgg16_bn",
    "mobilenet_v2",
];

/// A network of the zoo, for this many classes and pictures of `[channels, rows, columns]`.
///
/// # Errors
/// If there is no such network, or the pictures are too small for it.
///
/// ```
/// let graph = smidgen_graph::zoo::build("resnet20", 10, [3, 32, 32])?;
/// assert_eq!(graph.parameter_count(), 269_722);
/// # Ok::<(), smidgen_graph::GraphError>(())
/// ```
pub fn build(name: &str, classes: u32, shape: [u32; 3]) -> Result<Graph, GraphError> {
    match name {
        "resnet32x2" => resnet_cifar::build(name, 5, 2, classes, shape),
        "resnet8" => resnet_cifar::build(name, 1, 1, classes, shape),
        "resnet20" => resnet_cifar::build(name, 3, 1, classes, shape),
        "resnet32" => resnet_cifar::build(name, 5, 1, classes, shape),
        "resnet44" => resnet_cifar::build(name, 7, 1, classes, shape),
        "resnet56" => resnet_cifar::build(name, 9, 1, classes, shape),
        "resnet110" => resnet_cifar::build(name, 18, 1, classes, shape),
        "resnet18" => resnet::basic(name, [2, 2, 2, 2], classes, shape),
        "resnet34" => resnet::basic(name, [3, 4, 6, 3], classes, shape),
        "resnet50" => resnet::bottleneck(name, [3, 4, 6, 3], classes, shape),
        "vgg11_bn" => vgg::build(name, &vgg::ELEVEN, classes, shape),
        "vgg16_bn" => vgg::build(name, &vgg::SIXTEEN, classes, shape),
        "mobilenet_v2" => mobilenet::build(name, classes, shape),
        _ => Err(GraphError::UnknownNetwork {
            name: name.to_owned(),
            known: NAMES.join(", "),
        }),
    }
}

//! What a file holds that does not hold VGG19.

use super::kernels::{Kernel, Named, families, in_order};
use super::names;
use super::vgg19::{MAX_CHANNELS, expected_shape};

/// What to do about a file of another network.
const ADVICE: &str = "get VGG19's weights with `impasto weights download`, or save them from \
                      torchvision with `torch.save(vgg19(weights=\"DEFAULT\").state_dict(), …)`";

/// Channels of the VGG family's layers, in units of the first.
const FAMILY: [(&str, &[usize]); 4] = [
    ("VGG11", &[1, 2, 4, 4, 8, 8, 8, 8]),
    ("VGG13", &[1, 1, 2, 2, 4, 4, 8, 8, 8, 8]),
    ("VGG16", &[1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8]),
    ("VGG19", &[1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]),
];

/// Parts of names by which networks are known: all of one entry must occur in a file, in one name or
/// several. Entries that hold others come first.
const NAMES: [(&str, &[&str]); 38] = [
    ("a diffusion model", &["diffusion_model."]),
    ("a diffusion model's autoencoder", &["first_stage_model."]),
    (
        "a diffusion model's autoencoder",
        &["quant_conv.", "decoder.up"],
    ),
    ("a diffusion model", &["down_blocks.", "up_blocks."]),
    ("a diffusion model", &["double_blocks."]),
    ("a LoRA adapter", &["lora_"]),
    ("CLIP", &["logit_scale", "visual"]),
    ("CLIP", &["text_model.", "vision_model."]),
    ("a Swin transformer", &["relative_position_bias_table"]),
    ("a vision transformer (ViT)", &["cls_token", "pos_embed"]),
    (
        "a vision transformer (ViT)",
        &["class_token", "encoder_layer_"],
    ),
    ("a vision transformer (ViT)", &["cls_token", "patch_embed"]),
    ("a language model", &["embed_tokens"]),
    ("a language model", &["lm_head"]),
    ("a language model", &["word_embeddings"]),
    ("a language model", &["wte."]),
    ("SqueezeNet", &["squeeze.", "expand3x3."]),
    ("DenseNet", &["denseblock", "denselayer"]),
    ("Inception", &["Mixed_", "Conv2d_1a_3x3"]),
    ("GoogLeNet", &["inception3a", "inception4a"]),
    ("Inception", &["Mixed_5b"]),
    ("ShuffleNet", &["stage2.0.branch"]),
    ("MNASNet", &["layers.8.0.layers."]),
    ("EfficientNet", &["conv_stem", "blocks.", "se.conv_reduce"]),
    ("EfficientNet", &["features.1.0.block.1.fc1"]),
    ("MobileNet", &["conv_stem", "conv_dw"]),
    ("MobileNet V2", &["features.1.conv.0.0"]),
    ("MobileNet V3", &["features.1.block.0.0"]),
    ("ConvNeXt", &["features.1.0.block.0", "layer_scale"]),
    ("ConvNeXt", &["stages.", "dwconv"]),
    ("ConvNeXt", &["stages.", "conv_dw"]),
    ("RegNet", &["trunk_output."]),
    ("RegNet", &["s1.b1.conv1"]),
    ("ResNet or one of its kind", &["layer1.0.", "layer4."]),
    (
        "a network of residual blocks, such as a feed-forward style network",
        &["res1.", "res2."],
    ),
    ("YOLO", &["model.0.conv.", "model.1.conv."]),
    (
        "LPIPS's weights of layers, without the network",
        &["lin0.model", "lin1.model"],
    ),
    ("a U-Net", &["down1.", "up1.", "inc."]),
];

/// Says why a file of these tensors is of no use.
pub(super) fn explain(tensors: &[Named], kernels: &[Kernel]) -> String {
    let Some(&(first, _)) = tensors.first() else {
        return format!("it holds no tensors of weights; {ADVICE}");
    };
    let expected = "expected VGG19's convolutions, `features.0.weight` with shape [64, 3, 3, 3] \
                    and so on, under any usual prefix";
    if let Some(network) = identify(tensors, kernels) {
        let example = kernels.iter().map(|kernel| tensors[kernel.place]);
        let (name, shape) = telling(tensors, kernels)
            .or(example.into_iter().next())
            .unwrap_or((first, &[]));
        return format!(
            "this is another network: {network}, with tensors such as `{name}` of shape {shape:?}; \
             {expected}; {ADVICE}"
        );
    }
    let example = telling(tensors, kernels);
    match example {
        Some((name, shape)) => format!(
            "found `{name}` of shape {shape:?}, but the convolutions of VGG19 are features.0, 2, 5, \
             7, 10, … with their own shapes ({expected}); is it another network? {ADVICE}"
        ),
        None => {
            format!("found tensors such as `{first}`, but no convolutions; {expected}; {ADVICE}")
        }
    }
}

/// The first kernel that differs from VGG19's, in the largest group of them.
fn telling<'a>(tensors: &[Named<'a>], kernels: &[Kernel]) -> Option<Named<'a>> {
    let group = families(kernels).into_iter().max_by_key(Vec::len)?;
    let order = in_order(&group);
    let mut width = 64;
    for (index, kernel) in order.iter().enumerate() {
        let known = names::CONVOLUTIONS.get(index);
        if index == 0 {
            width = kernel.shape[0].clamp(1, MAX_CHANNELS);
        }
        let name = tensors[kernel.place].0;
        let as_expected = known.is_some_and(|position| {
            kernel.shape == expected_shape(index, width) && name.contains(&format!("{position}."))
        });
        if !as_expected {
            return Some(tensors[kernel.place]);
        }
    }
    order.last().map(|kernel| tensors[kernel.place])
}

/// The name of the network that these tensors are of, where they tell.
pub(super) fn identify(tensors: &[Named], kernels: &[Kernel]) -> Option<String> {
    if let Some(network) = vgg(tensors, kernels) {
        return Some(network);
    }
    let has = |part: &&str| tensors.iter().any(|(name, _)| name.contains(*part));
    if let Some((network, _)) = NAMES.iter().find(|(_, parts)| parts.iter().all(has)) {
        return Some((*network).to_string());
    }
    match in_order(kernels).first().map(|kernel| kernel.shape) {
        Some([64 | 96, 3, 11, 11]) => Some("AlexNet".to_string()),
        Some([64, 3, 7, 7]) => Some("ResNet or one of its kind".to_string()),
        _ => None,
    }
}

/// Which of the VGG family the kernels of a group are.
fn vgg(tensors: &[Named], kernels: &[Kernel]) -> Option<String> {
    families(kernels).iter().find_map(|group| {
        let order = in_order(group);
        let order = order.into_iter().filter(|kernel| kernel.is_3x3());
        let shapes: Vec<&[usize]> = order.map(|kernel| kernel.shape).collect();
        let name = vgg_of(&shapes)?;
        let normalized = tensors
            .iter()
            .any(|(name, _)| name.ends_with("running_mean"));
        match normalized {
            true => Some(format!("{name} with batch normalisation")),
            false if name == "VGG19" => None,
            false => Some(name.to_string()),
        }
    })
}

/// The network of the VGG family that has these kernels, or begins with them.
pub(super) fn vgg_of(shapes: &[&[usize]]) -> Option<&'static str> {
    let width = *shapes.first()?.first()?;
    let mut channels = 3;
    let mut widths = Vec::new();
    for shape in shapes {
        let &&[out, inputs, 3, 3] = shape else {
            return None;
        };
        if inputs != channels || width == 0 || out % width != 0 {
            return None;
        }
        widths.push(out / width);
        channels = out;
    }
    // Fewer layers could be of many networks.
    let begins = |(_, family): &&(&str, &[usize])| family.starts_with(&widths);
    let network = FAMILY
        .iter()
        .rev()
        .find(begins)
        .filter(|_| widths.len() >= 5);
    network.map(|(name, _)| *name)
}

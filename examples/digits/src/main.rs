//! Reads scans of handwritten digits and tells which digits they are.

use std::error::Error;
use std::path::Path;
use wpk::{Shape4, Tensor};

wpk::model! {
    /// Scores of the ten digits for images of 8x8 pixels, 0 for paper and 1 for ink.
    pub struct Digits = "models/digits.onnx";
    dims = { batch: [1] };
    gpu = [sm_80];
}

type Image = Tensor<f32, Shape4<1, 1, 8, 8>>;

fn main() -> Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    println!("on {:?}", digits.device());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?.iter().map(std::fs::DirEntry::path).collect();
    files.sort();
    let mut right = 0;
    for file in &files {
        let image = read(file)?;
        let found = digits.forward(&image)?.argmax();
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        // Files are named number-digit.
        let expected: usize = name.rsplit('-').next().unwrap_or_default().parse()?;
        right += usize::from(found == expected);
        print(&image);
        println!("{name}: this is a {found}{}\n", if found == expected { "" } else { ", which is wrong" });
    }
    println!("accuracy: {:.1} %", 100.0 * right as f64 / files.len() as f64);
    Ok(())
}

/// A grey image of 8x8 pixels as numbers from 0 to 1.
fn read(path: &Path) -> Result<Image, Box<dyn Error>> {
    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path)?)).read_info()?;
    let mut pixels = [0; 64];
    let info = reader.next_frame(&mut pixels)?;
    if (info.width, info.height, info.color_type) != (8, 8, png::ColorType::Grayscale) {
        return Err(format!("{} is no grey image of 8x8 pixels", path.display()).into());
    }
    Ok(Image::from_fn(|i| f32::from(pixels[i]) / 255.0))
}

/// The image as text, a character and its repetition a pixel.
fn print(image: &Image) {
    for row in image.as_slice().chunks(8) {
        let shade = |x: &f32| [' ', '.', ':', '+', '#', '@'][((x * 5.99) as usize).min(5)];
        println!("{}", row.iter().flat_map(|x| [shade(x); 2]).collect::<String>());
    }
}

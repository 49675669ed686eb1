//! Models on disk: a run folder (`model.safetensors` + `config.yaml`) or a TorchScript file.

use super::atomic::write_atomically;
use super::interface::{Adapted, Interface, View};
use super::network::{Architecture, Network};
use super::parameters::Parameters;
use super::spec::ModelSpec;
use super::torchscript::TorchScript;
use super::{Posterior, Vae, safetensors};
use crate::data::ImageShape;
use crate::error::{Error, Result};
use crate::ffi;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The weights in a run folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The configuration in a run folder; only its `model` key is read here.
pub const CONFIG_FILE: &str = "config.yaml";

/// A model from disk, ready for use.
pub struct Model {
    /// The model.
    pub vae: Box<dyn Vae>,
    /// Shape of its images, if the file says it (TorchScript does not).
    pub image: Option<ImageShape>,
    /// L, if the file says it.
    pub latent: Option<i64>,
    /// The specification that `train` built.
    pub spec: Option<ModelSpec>,
    /// SHA-256 of the weights file or the TorchScript file, in hex.
    pub sha256: String,
    /// The path that was opened.
    pub path: PathBuf,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("path", &self.path).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Vae for Model {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.vae.encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.vae.decode(z)
    }
    fn has_scale(&self) -> bool {
        self.vae.has_scale()
    }
    fn share(&self) -> Option<Box<dyn Vae>> {
        self.vae.share()
    }
    fn watch(&mut self, layers: &[String]) -> Result<()> {
        self.vae.watch(layers)
    }
    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.vae.features(x)
    }
}

/// Opens a run folder or a TorchScript file; the contents decide which it is.
///
/// # Errors
/// One line that names the file and says what is wrong with it.
pub fn open(path: impl AsRef<Path>, device: Device, kind: Kind) -> Result<Model> {
    open_as(path.as_ref(), device, kind, &Interface::default(), None)
}

/// [`open`] for a model that is read as `interface` says, for samples of the shape `sample`: if they are not images [C, H, W], they come as
/// images of the shape given with it.
///
/// # Errors
/// As [`open`]; a wrong request if a run folder would be read in another way than it says.
pub fn open_as(path: &Path, device: Device, kind: Kind, interface: &Interface, sample: Option<View>) -> Result<Model> {
    if !matches!(kind, Kind::Float | Kind::Double) {
        return Err(Error::request("precision", "f32 or f64", format!("{kind:?}")));
    }
    let found = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if found.is_dir() {
        if !interface.is_default() {
            let expected = "no --input-range, --posterior or --outputs: a run folder says itself how it is read";
            return Err(Error::request(path.display().to_string(), expected, "one of them"));
        }
        let (network, sha256) = with_sha256(&weights_of(path)?, || network(path, device, kind))?;
        Ok(Model {
            image: network.spec().image(),
            latent: Some(network.spec().latent()),
            spec: Some(network.spec().clone()),
            sha256,
            path: path.to_owned(),
            vae: Box::new(network),
        })
    } else {
        let (script, sha256) = with_sha256(path, || TorchScript::load(path, device, kind, interface))?;
        let vae: Box<dyn Vae> = match (interface.is_default(), sample) {
            (true, None) => Box::new(script),
            (_, sample) => Box::new(Adapted::new(script, interface, sample)),
        };
        Ok(Model { vae, image: None, latent: None, spec: None, sha256, path: path.to_owned() })
    }
}

/// What `read` makes of a file, and the SHA-256 of the same bytes.
///
/// # Errors
/// A wrong request if the file changes meanwhile: a result would name other weights than those that it is of.
fn with_sha256<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<(T, String)> {
    let stamp = || {
        let found = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        Ok::<_, Error>((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    let before = stamp()?;
    let (made, sha256) = (read()?, sha256(path)?);
    if stamp()? == before {
        return Ok((made, sha256));
    }
    Err(Error::request(path.display().to_string(), "a file that stays as it is while it is read", "another since"))
}

/// The weights of a run folder.
fn weights_of(folder: &Path) -> Result<PathBuf> {
    let weights = folder.join(WEIGHTS_FILE);
    if weights.is_file() {
        return Ok(weights);
    }
    Err(Error::request(
        folder.display().to_string(),
        format!("a run folder with {WEIGHTS_FILE} and {CONFIG_FILE}"),
        format!("no {WEIGHTS_FILE}"),
    ))
}

/// Opens a run folder as a network that can be trained further.
pub fn network(folder: &Path, device: Device, kind: Kind) -> Result<Network> {
    ffi::exact_math()?;
    let weights = weights_of(folder)?;
    let spec = read_spec(&folder.join(CONFIG_FILE))?;
    let architecture = Architecture::new(&spec)?;
    let contents = safetensors::read(&weights)?;
    let subject = weights.display().to_string();
    let parameters = Parameters::from_named(architecture.slots(), contents.tensors, &subject, device, kind)?;
    Ok(Network::with_parameters(&spec, architecture, parameters))
}

/// Writes the weights into a run folder, and a `config.yaml` with only the model if there is none.
///
/// # Errors
/// A wrong request if the `config.yaml` that is there describes another model; if a file cannot be written.
pub fn save(folder: &Path, network: &Network) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    ensure_own(folder, network.spec())?;
    let config = folder.join(CONFIG_FILE);
    if !config.exists() {
        let text = serde_yaml::to_string(&serde_json::json!({ "model": network.spec() }))
            .map_err(|e| Error::request(config.display().to_string(), "a model to write", e.to_string()))?;
        write_atomically(&config, text.as_bytes())?;
    }
    let tensors: Vec<(&str, Tensor)> =
        network.parameters().iter().map(|(slot, tensor)| (slot.name.as_str(), tensor.shallow_clone())).collect();
    safetensors::write(&folder.join(WEIGHTS_FILE), &tensors, None)
}

/// Checks that the `config.yaml` in a folder, if there is one, describes this model: weights beside the description of another would be read
/// as that one.
///
/// # Errors
/// A wrong request if it describes another model, or none.
pub(crate) fn ensure_own(folder: &Path, spec: &ModelSpec) -> Result<()> {
    let config = folder.join(CONFIG_FILE);
    if !config.exists() || read_spec(&config)? == *spec {
        return Ok(());
    }
    Err(Error::request(config.display().to_string(), "the model whose weights are saved beside it", "another model"))
}

/// The `model` key of a `config.yaml`.
fn read_spec(path: &Path) -> Result<ModelSpec> {
    let text = Error::read_text(path)?;
    let wrong = |expected: &str, found: String| Error::request(path.display().to_string(), expected, found);
    let yaml: serde_yaml::Value =
        serde_yaml::from_str(&text).map_err(|e| wrong("YAML", first_line(&e.to_string()).to_owned()))?;
    let model = yaml.get("model").cloned().ok_or_else(|| wrong("a key `model`", "none".to_owned()))?;
    serde_yaml::from_value(model)
        .map_err(|e| wrong("a model under the key `model`", first_line(&e.to_string()).to_owned()))
}

/// SHA-256 of a file in hex, read piece by piece.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0u8; 1 << 16]);
    loop {
        let n = file.read(&mut piece).map_err(|e| Error::io(path, e))?;
        if n == 0 {
            break;
        }
        hash.update(&piece[..n]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_bytes_that_were_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "first").unwrap();
        let (text, sha256) = with_sha256(&path, || Error::read_text(&path)).unwrap();
        assert_eq!((text.as_str(), sha256), ("first", super::sha256(&path).unwrap()));
        let changed = with_sha256(&path, || {
            let text = Error::read_text(&path)?;
            std::fs::write(&path, "the second").map_err(|e| Error::io(&path, e))?;
            Ok(text)
        });
        let error = changed.unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("weights: expected a file that stays"), "{error}");
    }
}

//! Datasets, declared and implied.

use serde::Serialize;

use super::call::Call;
use super::jobs::written;
use super::page::PageRequest;
use super::problem::{Kind, Problem};
use super::reply::Reply;
use crate::graph::{CanonicalJson, Dataset, Name, Operation};
use crate::service::Subject;
use crate::wire::DatasetWire;

/// A dataset as it is answered.
#[derive(Serialize)]
pub struct DatasetBody<'g> {
    name: &'g Name,
    declared: bool,
    producer: Option<&'g Name>,
    consumers: Vec<&'g Name>,
    metadata: CanonicalJson,
}

impl<'g> From<Dataset<'g>> for DatasetBody<'g> {
    fn from(dataset: Dataset<'g>) -> Self {
        Self {
            name: dataset.name(),
            declared: dataset.metadata().is_some(),
            producer: dataset.producer().map(|job| job.name()),
            consumers: dataset.consumers(),
            metadata: dataset.metadata().cloned().unwrap_or_default(),
        }
    }
}

/// `GET …/datasets`
pub async fn list(call: Call) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    let page = PageRequest::new(&call, &format!("datasets\0{graph}"))?;
    let version = image.key.version;
    call.app
        .clone()
        .compute(move || {
            call.read_answer(version, version, || {
                let datasets = image.graph.datasets_from(page.from());
                Reply::json(&page.page(datasets, |dataset| dataset.name(), DatasetBody::from))
            })
        })
        .await
}

/// So many names are written out on the spot. More are computed beside the turns, where one that is
/// quick would wait behind plans.
const QUICK_NAMES: usize = 1_000;

/// `GET …/datasets/{dataset}`
pub async fn read(call: Call) -> Result<Reply, Problem> {
    let name = call.name("dataset")?;
    let (graph, image) = call.image().await?;
    let version = image.key.version;
    let quick =
        image.graph.dataset(name.as_str()).is_none_or(|dataset| dataset.mentions() <= QUICK_NAMES);
    let app = call.app.clone();
    let answer = move || {
        let Some(dataset) = image.graph.dataset(name.as_str()) else {
            let problem =
                Problem::new(Kind::DatasetNotFound, format!("there is no dataset `{name}`"));
            return Err(problem.with("name", serde_json::json!(name)).decided_at(&graph, version));
        };
        Ok(call.read_answer(version, version, || Reply::json(&DatasetBody::from(dataset))))
    };
    if quick { answer() } else { app.compute(answer).await? }
}

/// `PUT …/datasets/{dataset}`
pub async fn put(call: Call) -> Result<Reply, Problem> {
    let name = call.name("dataset")?;
    let metadata = if call.has_body() {
        call.json::<DatasetWire>()?.into_metadata(&name)?
    } else {
        CanonicalJson::default()
    };
    let subject = Subject::Dataset(name.clone());
    written(&call, Operation::PutDataset { name, metadata }, subject).await
}

/// `DELETE …/datasets/{dataset}`
pub async fn delete(call: Call) -> Result<Reply, Problem> {
    let name = call.name("dataset")?;
    let subject = Subject::Dataset(name.clone());
    written(&call, Operation::DeleteDataset { name }, subject).await
}

//! What the page asks for, and what it is told.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use impasto::Recipe;
use impasto::page::RecipeInfo;
use impasto::picture::ColorTransfer;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::command_line::CommonOptions;
use super::guard::{Guard, guard};
use super::ids::{JobId, PictureId};
use super::job::{Job, Order, Steered};
use super::jobs::{Jobs, Refused};
use super::settings::Settings;
use super::store::Store;

/// The most bytes of a picture's file.
const PICTURE_BYTES: usize = 128 << 20;

/// The most bytes of anything else that is sent.
const BODY_BYTES: usize = 64 << 10;

/// The most jobs that wait.
const WAITING: usize = 50;

/// The most pages that follow events at once.
const PAGES: usize = 32;

/// The most pictures that are received at once.
const UPLOADS: usize = 2;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The files of the page.
const FILES: [(&str, &str, &str); 6] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/studio.css",
        "text/css; charset=utf-8",
        include_str!("page/studio.css"),
    ),
    (
        "/studio.js",
        "text/javascript; charset=utf-8",
        include_str!("page/studio.js"),
    ),
    (
        "/engine.js",
        "text/javascript; charset=utf-8",
        include_str!("page/engine.js"),
    ),
    (
        "/canvas.js",
        "text/javascript; charset=utf-8",
        include_str!("page/canvas.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// What is served.
pub struct Studio {
    pub jobs: Arc<Jobs>,
    /// What paints; `None` where a running command is only shown.
    pub common: Option<CommonOptions>,
    pub store: Option<Arc<Store>>,
    pub title: String,
}

struct App {
    studio: Studio,
    pages: Arc<Semaphore>,
    uploads: Semaphore,
}

type Shared = State<Arc<App>>;

/// What went wrong, for the page.
struct Problem(StatusCode, String);

impl Problem {
    fn input(text: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, text.into())
    }

    fn missing() -> Self {
        Self(StatusCode::NOT_FOUND, "there is no such thing".to_string())
    }

    fn internal(text: impl Into<String>) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

type Answer<T = Response> = Result<T, Problem>;

/// Everything that is answered.
pub fn router(studio: Studio, rules: Guard) -> Router {
    let app = Arc::new(App {
        studio,
        pages: Arc::new(Semaphore::new(PAGES)),
        uploads: Semaphore::new(UPLOADS),
    });
    let mut router = Router::new();
    for (path, kind, text) in FILES {
        router = router.route(
            path,
            get(move || async move { ([(CONTENT_TYPE, kind)], text) }),
        );
    }
    router
        .route("/api/info", get(info))
        .route("/api/events", get(events))
        .route("/api/pictures", post(add_picture))
        .route("/api/pictures/{id}", get(picture))
        .route("/api/jobs", post(start))
        .route("/api/jobs/{id}/curves", get(curves))
        .route("/api/jobs/{id}/preview", get(preview))
        .route("/api/jobs/{id}/result", get(result))
        .route("/api/jobs/{id}/history", get(history))
        .route("/api/jobs/{id}/steer", post(steer))
        .route("/api/jobs/{id}/{action}", post(act))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(patience))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), writable))
        .layer(middleware::from_fn_with_state(rules, guard))
        .with_state(app)
}

/// Gives up on a client that does not send what it began.
async fn patience(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Refuses to change anything where a running command is only shown.
async fn writable(State(app): Shared, request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    match reads || app.studio.common.is_some() {
        true => next.run(request).await,
        false => Problem(
            StatusCode::FORBIDDEN,
            "this page only shows a running command".to_string(),
        )
        .into_response(),
    }
}

impl App {
    fn common(&self) -> Answer<(&CommonOptions, &Arc<Store>)> {
        let both = self.studio.common.as_ref().zip(self.studio.store.as_ref());
        both.ok_or_else(Problem::missing)
    }

    fn jobs(&self) -> &Jobs {
        &self.studio.jobs
    }
}

/// What there is to choose from.
async fn info(State(app): Shared) -> Answer<Json<serde_json::Value>> {
    let studio = &app.studio;
    let recipes: Vec<RecipeInfo> = Recipe::all().into_iter().map(RecipeInfo::from).collect();
    let encoders = studio.common.as_ref().map(CommonOptions::encoders);
    Ok(Json(json!({
        "title": studio.title,
        "version": env!("CARGO_PKG_VERSION"),
        "read_only": studio.common.is_none(),
        "recipes": recipes,
        "recipe": Recipe::default().name,
        "colors": ColorTransfer::ALL,
        "encoders": encoders.unwrap_or_default(),
        "picture_bytes": PICTURE_BYTES,
    })))
}

/// A page that follows events, until it goes.
struct Follower {
    app: Arc<App>,
    receiver: Receiver<Arc<str>>,
    /// Whether it must be told everything: at first, and when it has fallen behind.
    anew: bool,
    _permit: OwnedSemaphorePermit,
}

/// Everything, and then every change.
async fn events(State(app): Shared) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let permit = Arc::clone(&app.pages).try_acquire_owned();
    let permit = permit.map_err(|_| {
        let text = "too many pages are open".to_string();
        Problem(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let follower = Follower {
        receiver: app.jobs().subscribe(),
        app,
        anew: true,
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let text = next_event(&mut follower).await?;
        Some((Ok(Event::default().data(text)), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn next_event(follower: &mut Follower) -> Option<String> {
    if !std::mem::take(&mut follower.anew) {
        match follower.receiver.recv().await {
            Ok(text) => return Some(text.to_string()),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(_)) => {
                // What it missed is in what it is told now.
                follower.receiver = follower.app.jobs().subscribe();
            }
        }
    }
    let jobs = follower.app.jobs().list();
    Some(json!({"type": "all", "jobs": jobs}).to_string())
}

/// Takes a picture, as its file.
async fn add_picture(State(app): Shared, body: Body) -> Answer {
    let (_, store) = app.common()?;
    let _permit = app.uploads.acquire().await;
    let bytes = axum::body::to_bytes(body, PICTURE_BYTES).await;
    let bytes = bytes.map_err(|_| {
        let text = format!(
            "the picture's file has more than {} MB",
            PICTURE_BYTES >> 20
        );
        Problem(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    let store = Arc::clone(store);
    let added = aside(move || store.add(&bytes)).await?;
    Ok(Json(added.map_err(Problem::input)?).into_response())
}

#[derive(Deserialize)]
struct PictureQuery {
    #[serde(default)]
    small: bool,
}

/// A picture for the page: PNG.
async fn picture(
    State(app): Shared,
    Path(id): Path<PictureId>,
    Query(query): Query<PictureQuery>,
) -> Answer {
    let (_, store) = app.common()?;
    let store = Arc::clone(store);
    let is_dropped = matches!(id, PictureId::Dropped(_));
    let bytes = aside(move || store.shown(&id, query.small)).await?;
    let bytes = bytes.map_err(|_| Problem::missing())?;
    // The name of a picture that was dropped is that of its bytes.
    let keep = match is_dropped {
        true => "private, max-age=31536000, immutable",
        false => "no-store",
    };
    let headers = [(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, keep)];
    Ok((headers, bytes).into_response())
}

/// Begins a job.
async fn start(State(app): Shared, Json(settings): Json<Settings>) -> Answer {
    let (common, store) = app.common()?;
    if app.jobs().unfinished() >= WAITING {
        let text = format!("{WAITING} jobs wait already; delete some first");
        return Err(Problem(StatusCode::TOO_MANY_REQUESTS, text));
    }
    let id = app.jobs().reserve();
    check(&settings, common, store, id)?;
    let command = common.command_line(&settings, store, &store.result(id));
    let title = format!("{} · {}", id, settings.recipe);
    let job = Job::new(id, Some(settings), title, command);
    app.jobs().add(job).map_err(|error| unkept(&error))?;
    Ok(Json(json!({"id": id})).into_response())
}

/// Changes the settings of a job that is painted.
async fn steer(
    State(app): Shared,
    Path(id): Path<JobId>,
    Json(settings): Json<Settings>,
) -> Answer<StatusCode> {
    let (common, store) = app.common()?;
    let known = app.jobs().read(id, |job| job.facts.settings.clone());
    let known = known.flatten().ok_or_else(Problem::missing)?;
    let pictures = |settings: &Settings| {
        let styles = settings.styles.iter();
        let styles: Vec<_> = styles
            .map(|style| (style.picture.clone(), style.mask.clone()))
            .collect();
        let content = settings.content.clone();
        (content, styles, settings.start.clone(), settings.encoder)
    };
    if pictures(&settings) != pictures(&known) {
        let text = "the pictures and the network of a job stay as they are; begin another one";
        return Err(Problem::input(text));
    }
    check(&settings, common, store, id)?;
    follow(app.jobs().order(id, Order::Steer(Box::new(settings))))
}

/// The answer to an order.
fn follow(done: Result<(), Refused>) -> Answer<StatusCode> {
    match done {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(Refused::Missing) => Err(Problem::missing()),
        Err(Refused::Conflict) => {
            let text = "that cannot be done with the job as it stands";
            Err(Problem(StatusCode::CONFLICT, text.to_string()))
        }
        Err(Refused::Io(error)) => Err(unkept(&error)),
    }
}

fn unkept(error: &std::io::Error) -> Problem {
    Problem::internal(format!("the job cannot be kept: {error}"))
}

/// Checks what can be checked of settings without painting.
fn check(settings: &Settings, common: &CommonOptions, store: &Store, id: JobId) -> Answer<()> {
    let arguments = common.arguments(settings, store, &store.result(id));
    let arguments = arguments.map_err(Problem::input)?;
    let recipe = crate::cli::recipe::from_style_args(&arguments.style, &arguments.device);
    recipe.map_err(|failure| Problem::input(failure.to_string()))?;
    Ok(())
}

/// Pauses, continues, finishes or deletes a job.
async fn act(State(app): Shared, Path((id, action)): Path<(JobId, String)>) -> Answer<StatusCode> {
    let order = match &*action {
        "pause" => Order::Pause,
        "continue" => Order::Continue,
        "finish" => Order::Finish,
        "remove" => Order::Remove,
        _ => return Err(Problem::missing()),
    };
    follow(app.jobs().order(id, order))
}

/// The curves of a job so far.
async fn curves(State(app): Shared, Path(id): Path<JobId>) -> Answer {
    let curves = app.jobs().read(id, |job| job.curves.clone());
    Ok(Json(curves.ok_or_else(Problem::missing)?).into_response())
}

/// The picture of a job as it stands: JPEG.
async fn preview(State(app): Shared, Path(id): Path<JobId>) -> Answer {
    let bytes = app.jobs().preview(id).ok_or_else(Problem::missing)?;
    let bytes = Bytes::from_owner(bytes);
    Ok(([(CONTENT_TYPE, "image/jpeg")], bytes).into_response())
}

/// The result of a job, as a file to keep.
async fn result(State(app): Shared, Path(id): Path<JobId>) -> Answer {
    let (_, store) = app.common()?;
    let store = Arc::clone(store);
    let bytes = aside(move || std::fs::read(store.result(id))).await?;
    let bytes = bytes.map_err(|_| Problem::missing())?;
    let name = format!("attachment; filename=\"impasto-{id}.png\"");
    let mut response = ([(CONTENT_TYPE, "image/png")], bytes).into_response();
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// How a job was painted, with whatever was changed on the way.
#[derive(Serialize)]
struct History {
    version: &'static str,
    command: String,
    settings: Option<Settings>,
    steering: Vec<Steered>,
}

/// The history of a job, as a file to keep.
async fn history(State(app): Shared, Path(id): Path<JobId>) -> Answer {
    let history = app.jobs().read(id, |job| History {
        version: env!("CARGO_PKG_VERSION"),
        command: job.facts.command.clone(),
        settings: job.facts.settings.clone(),
        steering: job.facts.steering.clone(),
    });
    let mut response = Json(history.ok_or_else(Problem::missing)?).into_response();
    let name = format!("attachment; filename=\"impasto-{id}.json\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Does work that takes a while on another thread, so that other pages do not wait for it.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::internal("the work was broken off"))
}

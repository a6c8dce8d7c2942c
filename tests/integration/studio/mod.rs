//! The studio, over HTTP and in a browser.

mod browser;
mod client;
mod painting;
mod safety;

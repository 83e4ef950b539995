//! One page that shows everything, without a network.

use super::Profile;

const PAGE: &str = include_str!("page.html");
/// Where the page has its data.
const PLACE: &str = "/*PROFILE*/";

impl Profile {
    /// A page of its own: the table of layers, the memory over the step with its budget, the map of the arena. It follows the reader's light
    /// or dark theme and loads nothing.
    ///
    /// # Errors
    /// Numbers that JSON cannot hold.
    pub fn html(&self) -> Result<String, serde_json::Error> {
        // A name must not end the script it stands in.
        let data = self.json()?.replace('<', "\\u003c");
        Ok(PAGE.replacen(PLACE, &data, 1))
    }

    /// Everything as JSON.
    ///
    /// # Errors
    /// Numbers that JSON cannot hold.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

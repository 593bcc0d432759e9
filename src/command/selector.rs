//! The selectors that commands share: which servers of the inventory they are about.

use clap::Args;

use crate::inventory::Selection;

/// Names and globs add up; the options narrow. Nothing means every active server.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectorArgs {
    /// Names or globs such as 'prod-*'; none means every active server
    #[arg(value_name = "SELECTOR", add = super::complete::servers())]
    pub selectors: Vec<String>,

    /// Only servers whose labels match, such as env=prod,region!=us
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Only servers of this vendor preset
    #[arg(long, value_name = "NAME")]
    pub vendor: Vec<String>,

    /// Only members of this group
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
}

impl SelectorArgs {
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            names: self.selectors.clone(),
            labels: self.labels.clone(),
            vendor: self.vendor.clone(),
            group: self.group.clone(),
        }
    }
}

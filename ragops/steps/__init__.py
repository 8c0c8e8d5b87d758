"""One verb a module. Each works alone and as a step of a campaign."""

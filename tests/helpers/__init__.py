"""What tests of several rooms share: accounts, servers, projects, entries, and images to mount."""

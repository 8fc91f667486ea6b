"""What several test modules share: data, servers, processes."""

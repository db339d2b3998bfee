"""What tests share: images, clients, servers, people, pages. Nothing here is a test."""

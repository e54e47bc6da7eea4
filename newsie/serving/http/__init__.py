"""The HTTP protocol below the application: limits of requests, authentication, connections and processes."""

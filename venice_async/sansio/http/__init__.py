"""The HTTP of the API: requests, answers, headers, links, and keeping secrets out of texts."""

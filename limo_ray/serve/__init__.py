"""The endpoint: OpenAI-compatible, on Ray Serve and vLLM, with keys, limits and a page at /."""

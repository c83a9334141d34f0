"""The endpoint: OpenAI-compatible, on Ray Serve and vLLM, with a gate in front and a page at /."""

"""``python -m mk8s_agent`` is ``mk8s-agent``."""

from mk8s_agent.main import main

if __name__ == "__main__":
    main()

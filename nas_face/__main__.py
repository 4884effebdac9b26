"""`python -m nas_face`: what the command `nas-face` does, also for torchrun."""

from nas_face.cli import main

if __name__ == "__main__":
    main()

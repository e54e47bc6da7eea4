"""For launchers: `accelerate launch -m newsie.training RECIPE.toml --data DIR` is `newsie train`."""

from newsie.cli.train import main

if __name__ == "__main__":
    main()

"""Run `newsie train` under a launcher: `accelerate launch -m newsie.training RECIPE.toml --data DIR`."""

from newsie.cli.train import main

if __name__ == "__main__":
    main()

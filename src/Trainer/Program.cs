return Z1Coder.Trainer.Cli.Cli.Run(args);

using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>The `data` section of a stage.</summary>
public static class DataRecipe
{
    /// <summary>Reads the section into the options of the data set.</summary>
    public static DatasetOptions From(RecipeTree tree)
    {
        var fields = tree.Text("fields");
        return new DatasetOptions
        {
            Files = tree.Texts("files"),
            Fields = fields is null ? null : FieldMap.Parse(fields),
            Format = tree.Choice("format", "chat", "chat", "alpaca") == "alpaca" ? PromptFormat.Alpaca : PromptFormat.Chat,
            Tokenization = tree.Choice("tokenization", "separate", "separate", "published") == "published"
                ? TokenizationRule.Published
                : TokenizationRule.Separate,
            Turns = tree.Choice("turns", "last", "last", "all") == "all" ? TrainTurns.All : TrainTurns.Last,
            MaxLength = tree.Int("max_length", 1280, 2),
            OverLength = tree.Choice("over_length", "truncate", "truncate", "drop") == "drop" ? OverLengthPolicy.Drop : OverLengthPolicy.Truncate,
            BrokenLines = tree.Choice("broken_lines", "stop", "stop", "skip") == "skip" ? BrokenLinePolicy.Skip : BrokenLinePolicy.Stop,
            Deduplicate = tree.Flag("deduplicate", true),
            EvalFraction = tree.Number("eval_fraction", 0, 0, 0.999),
            SplitSeed = (ulong)tree.Long("split_seed", 42),
        };
    }
}

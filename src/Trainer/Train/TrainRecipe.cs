using Z1Coder.Kernels;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>What to train: one readable YAML file, every key overridable with --set a.b=c, an unknown key refused.</summary>
/// <param name="Name">names the run's directory</param>
/// <param name="Seed">of weights, order and everything else that is drawn</param>
/// <param name="DType">compute and activation storage: bf16 or fp32; masters, moments and gradients are fp32 in both</param>
/// <param name="Model">where weights and shapes come from</param>
/// <param name="TokenizerFrom">directory or tokenizer.json; null takes the model's own directory</param>
/// <param name="TemplateFrom">a chat template (.jinja, or a tokenizer_config.json) to use instead of the tokenizer's own; null for its own</param>
/// <param name="Stages">trained one after another, each from the last one's weights</param>
/// <param name="Resolved">the recipe with every default filled in, as YAML</param>
public sealed record TrainRecipe(
    string Name, long Seed, string DType, ModelSource Model, string? TokenizerFrom, string? TemplateFrom, IReadOnlyList<StageRecipe> Stages, string Resolved)
{
    /// <summary>Where it was read, for messages.</summary>
    public string File { get; init; } = "the recipe";

    /// <summary>Reads and checks a recipe; nothing but the recipe file is touched. Paths inside are relative to the working directory.</summary>
    /// <exception cref="InvalidInputException">the first thing that is wrong, by key</exception>
    public static TrainRecipe Load(string file, IEnumerable<string> overrides) => From(RecipeTree.Load(file, overrides), file);

    /// <summary>As <see cref="Load"/>, from a tree already read.</summary>
    public static TrainRecipe From(RecipeTree tree, string file)
    {
        var name = tree.Text("name", Path.GetFileNameWithoutExtension(file))!;
        var seed = tree.Long("seed", 42);
        var dtype = tree.Choice("dtype", "bf16", "bf16", "fp32");
        var model = ModelSource.Read(tree.Section("model"));
        var tokenizer = tree.Section("tokenizer");
        var (tokenizerFrom, templateFrom) = (tokenizer.Text("from"), tokenizer.Text("template"));
        var stages = tree.Sections("stages", "data", "train", "guard", "eval", "checkpoint", "parallel").Select(StageRecipe.From).ToList();
        tree.RejectUnknownKeys();
        var twice = stages.GroupBy(s => s.Name).FirstOrDefault(g => g.Count() > 1);
        if (twice is not null)
        {
            throw new InvalidInputException($"{file}: two stages are named '{twice.Key}'");
        }

        return new TrainRecipe(name, seed, dtype, model, tokenizerFrom, templateFrom, stages, tree.ResolvedYaml()) { File = file };
    }
}

using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>The tokenizer of a run: the recipe's directory as it is, or a copy in the run's own where the recipe names a single file or another
/// chat template. Stages read a directory, and exported models copy it.</summary>
internal static class RunTokenizer
{
    private const string Jinja = "chat_template.jinja", Config = "tokenizer_config.json";

    private static readonly string[] s_names = [TokenizerReader.FileName, TokenizerReader.FileName + ".gz"];

    /// <summary>Where stages find it, on every rank.</summary>
    public static string DirectoryOf(TrainRecipe recipe, string run)
    {
        var (_, from) = Source(recipe);
        return recipe.TemplateFrom is null && Directory.Exists(from) ? from : Path.Combine(run, "tokenizer");
    }

    /// <summary>Rank 0, before any reads it: looks at what the recipe names, and makes the copy where one is needed.</summary>
    /// <exception cref="InvalidInputException">a file is missing, or chat prompts have no template; the sentence names the recipe and the key</exception>
    public static void Prepare(TrainRecipe recipe, string run)
    {
        var ((key, from), template) = (Source(recipe), recipe.TemplateFrom);
        if (!Directory.Exists(from) && !File.Exists(from))
        {
            throw new InvalidInputException($"{recipe.File}: {key} is '{from}': no such file or directory");
        }

        if (Directory.Exists(from) && !Array.Exists(s_names, name => File.Exists(Path.Combine(from, name))))
        {
            throw new InvalidInputException($"{recipe.File}: {key} is '{from}', which holds no {TokenizerReader.FileName}");
        }

        if (template is not null && !File.Exists(template))
        {
            throw new InvalidInputException($"{recipe.File}: tokenizer.template is '{template}': no such file");
        }

        var directory = DirectoryOf(recipe, run);
        if (directory != from)
        {
            Copy(HfDirectory.TokenizerFiles(from), template, directory);
        }

        if (recipe.Stages.Any(s => s.Data.Format == PromptFormat.Chat) && ChatTemplate.Find(directory) is null)
        {
            throw new InvalidInputException(
                $"{recipe.File}: {key} is '{from}', which has no chat template: set tokenizer.template to a .jinja file or a tokenizer_config.json, "
                + "or data.format to alpaca");
        }
    }

    private static (string Key, string From) Source(TrainRecipe recipe) =>
        recipe.TokenizerFrom is { } given ? ("tokenizer.from", given)
        : recipe.Model.From is { } model ? ("model.from", model)
        : throw new InvalidInputException(
            $"{recipe.File}: tokenizer.from is missing: random weights bring no tokenizer of their own; 'z1 tokenizer train' makes one, and 'z1 "
            + "demo' runs recipes/nano with one that it makes");

    private static void Copy(Dictionary<string, byte[]> files, string? template, string directory)
    {
        if (template is not null)
        {
            files.Remove(Jinja);                                 // it would be stronger than a template in tokenizer_config.json
            files[template.EndsWith(".jinja", StringComparison.Ordinal) ? Jinja : Config] = File.ReadAllBytes(template);
        }

        Directory.CreateDirectory(directory);
        foreach (var stale in HfDirectory.TokenizerFileNames.Where(name => !files.ContainsKey(name)))
        {
            File.Delete(Path.Combine(directory, stale));         // of an earlier start with other files
        }

        foreach (var (name, content) in files)
        {
            File.WriteAllBytes(Path.Combine(directory, name), content);
        }
    }
}

using System.CommandLine;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>What several curate verbs share.</summary>
internal static class CurateOptions
{
    public static Argument<string[]> Inputs(string what) => new("files") { Description = what, Arity = ArgumentArity.OneOrMore };

    /// <param name="needsResponse">false where records are problems</param>
    public static Option<string?> Fields(bool needsResponse = true)
    {
        var option = new Option<string?>("--fields")
        {
            Description = "which keys hold what: prompt=question,response=answer (also input=, messages=, id=); found out where absent",
        };
        PlanCommand.Readable(option, text => FieldMap.Parse(text, needsResponse));
        return option;
    }

    public static Option<bool> SkipBroken() => new("--skip-broken")
    {
        Description = "count lines that cannot be read and go on, instead of stopping at the first",
    };

    public static BrokenLinePolicy Policy(bool skip) => skip ? BrokenLinePolicy.Skip : BrokenLinePolicy.Stop;

    /// <summary>A number below the least one is bad usage.</summary>
    public static void AtLeast(Option<double> option, double least) => option.Validators.Add(result =>
    {
        if (result.Tokens.Count > 0 && double.TryParse(result.Tokens[0].Value, out var value)
            && !(value >= least && double.IsFinite(value)))
        {
            result.AddError($"{option.Name} {result.Tokens[0].Value}: at least {least}");
        }
    });
}

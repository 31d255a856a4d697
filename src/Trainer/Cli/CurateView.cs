using Spectre.Console;
using Z1Coder.Trainer.Curation;

namespace Z1Coder.Trainer.Cli;

/// <summary>What a person sees while items are worked on: a live table on a terminal, one plain line now and then elsewhere.</summary>
internal sealed class CurateView(string title, CurationProgress progress, TextWriter plain, TimeSpan plainEvery)
{
    private static readonly TimeSpan s_liveEvery = TimeSpan.FromSeconds(0.25);

    private readonly bool _live = ReferenceEquals(plain, Console.Out) && !Console.IsOutputRedirected
        && AnsiConsole.Profile.Capabilities.Interactive;

    /// <summary>Shows the figures until <paramref name="run"/> has ended; its exception comes through.</summary>
    public async Task<bool> ShowAsync(Task<bool> run)
    {
        if (_live)
        {
            await AnsiConsole.Live(Table()).StartAsync(async context =>
            {
                while (await Task.WhenAny(run, Task.Delay(s_liveEvery)) != run)
                {
                    context.UpdateTarget(Table());
                }

                context.UpdateTarget(Table());
            });
        }
        else
        {
            while (await Task.WhenAny(run, Task.Delay(plainEvery)) != run)
            {
                plain.WriteLine(Line());
            }
        }

        return await run;
    }

    /// <summary>All figures in one line.</summary>
    public string Line() =>
        $"{title} {progress.Kept + progress.Dropped}/{progress.Total} done, {progress.Dropped} dropped, {progress.Failed} failed, "
        + $"{progress.InFlight} in flight, {progress.PromptTokens} tokens in, {progress.CompletionTokens} out{Money()}, "
        + $"{progress.ItemsPerSecond:0.##} items/s, eta {Eta()}" + (progress.Retries > 0 ? $", {progress.Retries} retries" : "")
        + (progress.LastProblem is { } problem ? $" ({problem})" : "");

    private string Money() => progress.Cost > 0 ? $", cost {progress.Cost:0.00}" : "";

    private string Eta() => progress.Left is { } left ? $"{(int)left.TotalHours:00}:{left.Minutes:00}:{left.Seconds:00}" : "?";

    private Table Table()
    {
        var table = new Table().Border(TableBorder.Rounded).Title(Markup.Escape(title));
        table.AddColumns("done", "dropped", "failed", "in flight", "tokens in", "tokens out", "cost", "items/s", "retries", "ETA");
        table.AddRow(
            $"{progress.Kept + progress.Dropped}/{progress.Total}", $"{progress.Dropped}", $"{progress.Failed}", $"{progress.InFlight}",
            $"{progress.PromptTokens}",
            $"{progress.CompletionTokens}", progress.Cost > 0 ? $"{progress.Cost:0.00}" : "-", $"{progress.ItemsPerSecond:0.##}",
            $"{progress.Retries}", Eta());
        return progress.LastProblem is { } problem ? table.Caption(Markup.Escape(problem)) : table;
    }
}

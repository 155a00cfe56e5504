//! A chart as shapes in its own coordinates, drawn by the plotting crate.
//!
//! Does: lay out axes, grid and shapes, and return SVG.
//! Does not: know what a shape means.
//! Invariants: drawn at twice the size that is shown, because the crate rounds to whole points.
//! Apart because it is the only file that names the plotting crate.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, DrawingBackend, IntoDrawingArea, IntoFont,
    IntoTextStyle, PathElement, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use crate::report::palette::{Colour, FAINT, GRID, GROUND, INK};

/// A chart.
#[derive(Debug)]
pub struct Chart {
    /// Width and height in points, twice the size it is shown in.
    pub size: (u32, u32),
    /// Points for the texts left of the chart.
    pub left: u32,
    /// Points right of the chart.
    pub right: u32,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// Whether lines go across from the ticks of y.
    pub has_rows: bool,
    /// What is in it, back to front.
    pub shapes: Vec<Shape>,
}

/// Something in a chart, in its coordinates.
#[derive(Debug)]
pub enum Shape {
    /// Points joined.
    Line(Colour, Vec<(f64, f64)>),
    /// A full circle.
    Dot(Colour, (f64, f64)),
    /// An empty circle.
    Ring(Colour, (f64, f64)),
    /// A box between two corners.
    Bar(Colour, (f64, f64), (f64, f64)),
    /// From one x to another at this y, with ends.
    Whisker((f64, f64), f64),
    /// A line across at this x, in ink.
    Post(f64),
    /// Words that begin right of a point.
    Words((f64, f64), String),
}

/// Half a page wide.
pub const HALF: (u32, u32) = (1_160, 720);

const TEXT_POINTS: f64 = 30.0;
const FONT: &str = "system-ui, sans-serif";

type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

/// Draws. The drawing crate fails only where its target fails, and a text cannot.
#[must_use]
pub fn draw(chart: &Chart) -> String {
    let mut svg = String::new();
    let drawn = try_draw(chart, &mut svg);
    assert!(drawn.is_ok(), "a text takes every drawing: {drawn:?}");
    svg
}

type Failure<'b> =
    plotters::drawing::DrawingAreaErrorKind<<SVGBackend<'b> as DrawingBackend>::ErrorType>;

fn try_draw<'b>(chart: &Chart, svg: &'b mut String) -> Result<(), Failure<'b>> {
    let root = SVGBackend::with_string(svg, chart.size).into_drawing_area();
    let mut plot = ChartBuilder::on(&root)
        .margin_top(22)
        .margin_right(chart.right)
        .margin_left(6)
        .margin_bottom(4)
        .x_label_area_size(if chart.x.label.is_empty() { 54 } else { 100 })
        .y_label_area_size(chart.left)
        .build_cartesian_2d(Ticked::of(&chart.x), Ticked::of(&chart.y))?;
    let text = (FONT, TEXT_POINTS).into_font().color(&rgb(INK));
    let mut mesh = plot.configure_mesh();
    mesh.bold_line_style(rgb(GRID))
        .light_line_style(rgb(FAINT))
        .axis_style(ShapeStyle::from(rgb(INK)).stroke_width(2))
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .x_desc(chart.x.label.clone())
        .y_desc(chart.y.label.clone());
    if !chart.has_rows {
        mesh.disable_y_mesh();
    }
    mesh.draw()?;
    for shape in &chart.shapes {
        draw_shape(&mut plot, chart, shape)?;
    }
    root.present()
}

fn draw_shape<'b>(
    plot: &mut Plot<'_, 'b>,
    chart: &Chart,
    shape: &Shape,
) -> Result<(), Failure<'b>> {
    let area = plot.plotting_area();
    let stroke = |colour: Colour, width: u32| ShapeStyle::from(rgb(colour)).stroke_width(width);
    match shape {
        Shape::Line(colour, points) => {
            area.draw(&PathElement::new(points.clone(), stroke(*colour, 5)))
        }
        Shape::Dot(colour, at) => area.draw(&Circle::new(*at, 9, rgb(*colour).filled_style())),
        Shape::Ring(colour, at) => {
            area.draw(&Circle::new(*at, 9, rgb(GROUND).filled_style()))?;
            area.draw(&Circle::new(*at, 9, stroke(*colour, 4)))
        }
        Shape::Bar(colour, from, to) => {
            area.draw(&Rectangle::new([*from, *to], rgb(*colour).filled_style()))
        }
        Shape::Whisker((from, to), y) => {
            let tall = (chart.y.high - chart.y.low) * 9.0 / f64::from(chart.size.1);
            let line = |points: Vec<(f64, f64)>| PathElement::new(points, stroke(INK, 4));
            area.draw(&line(vec![(*from, *y), (*to, *y)]))?;
            area.draw(&line(vec![(*from, y - tall), (*from, y + tall)]))?;
            area.draw(&line(vec![(*to, y - tall), (*to, y + tall)]))
        }
        Shape::Post(x) => area
            .draw(&PathElement::new(vec![(*x, chart.y.low), (*x, chart.y.high)], stroke(INK, 3))),
        Shape::Words(at, words) => {
            let ink = rgb(INK);
            let style = (FONT, TEXT_POINTS)
                .into_text_style(area)
                .color(&ink)
                .pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(format!("  {words}"), *at, style))
        }
    }
}

fn rgb((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

/// A colour as the inside of a shape.
trait FilledStyle {
    fn filled_style(self) -> ShapeStyle;
}

impl FilledStyle for RGBColor {
    fn filled_style(self) -> ShapeStyle {
        ShapeStyle::from(self).filled()
    }
}

/// A linear coordinate with given ticks, each with its own words.
struct Ticked {
    inner: RangedCoordf64,
    ticks: Vec<(f64, String)>,
    minor: Vec<f64>,
}

impl Ticked {
    fn of(axis: &Axis) -> Self {
        Self {
            inner: (axis.low..axis.high).into(),
            ticks: axis.ticks.clone(),
            minor: axis.minor.clone(),
        }
    }
}

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.inner.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.minor.clone()
        } else {
            self.ticks.iter().map(|(at, _)| *at).collect()
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.inner.range()
    }
}

impl ValueFormatter<f64> for Ticked {
    fn format_ext(&self, value: &f64) -> String {
        let words = self.ticks.iter().find(|(at, _)| at == value).map(|(_, words)| words.clone());
        words.unwrap_or_default()
    }
}
